"""Fine-tune by learning which weights to set to zero (arXiv 2004.14129, section 5)."""
