"""The driver: starts what is pending, retries what failed, survives being killed."""
