"""Floor 1: one hardened HTTP client per connection, its pages, its meter."""

from integrations_pipeline.client.answer import Answer
from integrations_pipeline.client.client import Client
from integrations_pipeline.client.meter import Meter
from integrations_pipeline.client.page import Page
from integrations_pipeline.client.writing import Answered, Change

__all__ = ["Answer", "Answered", "Change", "Client", "Meter", "Page"]
