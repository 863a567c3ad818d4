"""The devices of this machine, and how a tensor gets from one to another.

Read `hardware` first, where a new kind of device begins; then `transfer`. CONTRIBUTING.md names the
places in other rooms that have to know it.
"""

__all__ = ["checkup", "hardware", "transfer"]
