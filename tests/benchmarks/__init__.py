"""How light and how fast otplib is: `python -m tests.benchmarks`, explained in `__main__`.

`catalogue` lists what is measured, `on_otplib_*` and `bare` hold the measured programs, `beam_*.exs` the same in
Elixir; `worker` is the fresh process that runs one of them once, `harness` starts it and gathers the medians, `table`
prints them.
"""
