"""What can be done to a registry, one module each: every ``plan_*`` reads, and none writes."""
