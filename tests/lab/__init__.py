"""The lab: two clouds on one machine, and real software in every part.

    python -m tests.lab up | status | shell HOST | down       by hand, as root
    with Site.running() as site: ...                          in a test (tests.lab.site)

The smaller form, a chain of databases on loopback, is `tests.lab.loopback`.
"""
