"""What codes are trained with: pure functions of logits, one file a family, and the criteria a trainer chooses from."""
