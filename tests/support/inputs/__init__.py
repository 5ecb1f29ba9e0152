"""What people bring, as cases: each makes an input, runs the commands over it, and says what a reasonable user expects.

`docs/INPUTS.md` is written from what comes out of them.
"""
