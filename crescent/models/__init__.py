"""Model folders, packaged weights, embedders and size estimates."""
