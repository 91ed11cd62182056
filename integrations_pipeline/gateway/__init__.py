"""Floor 4: the HTTP door. It verifies the deliveries of webhooks and stores their events, and does nothing else."""
