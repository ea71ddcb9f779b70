"""Swapping a model's tokenizer: plan, apply, verify."""
