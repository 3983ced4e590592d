"""What a search solves: items, scene, method, plan."""
