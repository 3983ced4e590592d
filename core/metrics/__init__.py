"""Numbers about counterfactuals."""
