"""rlhf-ladder from a checkout: `python run.py algo=ppo model=llama`. See `python run.py --help`."""

from harness.program import main

if __name__ == "__main__":
    main()
