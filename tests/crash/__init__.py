"""Real processes killed at every durability step; nothing acknowledged is lost, nothing half done is seen."""
