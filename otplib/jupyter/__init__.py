"""The faces of otplib in a notebook.

`bridge` is the only module that touches the running kernel: it tells the machine where a cell's output goes, which code
is a cell's, and what a cell shows when an exit reaches it. `output` holds what it puts in place: the writer of one
cell, the router of `display`, the handler of crash reports, the texts of exits.

`import otplib` connects them where IPython runs already; elsewhere neither is imported.
"""
