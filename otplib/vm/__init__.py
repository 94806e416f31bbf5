"""The engine: the only floor with threads.

`machine` routes signals, `scheduler` runs steps, `watchdog` takes the role from hogs, `traps` is the one file that
yields, `shell` is the process of code that no scheduler runs, `blocking` lends threads.
"""
