"""Runs that are described in files: who is there, what they do an hour, what happens to the server meanwhile.

script      a scenario file (loadtest/scenarios/*.toml), checked
samples     what is measured every second
run         the run: log in, meet, talk, an event, let everything arrive
bottleneck  which resource limits it, by a stated rule
page        the report as a page
compare     two reports side by side

The sessions are those of `company` and `resuming`.
"""
