"""The fault matrix: what is broken, when and how it is healed is data; outside judges say what came of it."""
