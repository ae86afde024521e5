"""Rounds of feedback: answers of the policy labelled, the reward model fitted again, and on."""
