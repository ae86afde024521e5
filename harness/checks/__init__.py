"""What is checked: options, before anything heavy is imported; models and data, at the start; the
health of a run, while it trains.
"""
