"""What it runs on: cores and GPUs, and how a tensor gets from one place to another.

Read `hardware` first, where a new kind of device begins; then `transfer`.
"""

__all__ = ["checkup", "hardware", "transfer"]
