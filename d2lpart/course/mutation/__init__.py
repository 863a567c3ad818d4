"""The checks tested by machine: small mistakes are made in a reference, and each must be found.

Read `mutants` first.
"""
