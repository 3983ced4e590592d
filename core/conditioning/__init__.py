"""What a network is asked under: words, embeddings and their directions."""
