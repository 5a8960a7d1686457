"""What is on the disk: stages that run once, manifests, locks and metrics."""
