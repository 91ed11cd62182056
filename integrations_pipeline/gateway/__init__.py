"""Floor 4: the HTTP door. It verifies and stores what webhooks bring, and serves the team's records."""
