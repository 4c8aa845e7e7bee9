"""Run with ``python -m examples.support_agent``."""

from examples.support_agent.demo import main

if __name__ == "__main__":
    main()
