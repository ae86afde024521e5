"""What is typed: mistakes told before anything is begun, and the help of each task.

Nothing heavy is imported, and a message names the option, what is wrong, and what to type instead.
"""
