"""What runs, when, and how often it is tried: runs that cannot multiply, and updates that cannot be lost.

A sensor's tick reads a source (`sweep`, `sweep_tick`) or what is held (`follow_tick`), and requests what is behind
(`desired_state`). A run submits, waits and collects (`exports`) and records what became of each partition. What the
source no longer has is retired (`retirement`), what went wrong stands in the `inventory` and is told (`alerts`). Beside
their definitions stand the `cadence` of sensors, the time and the worker of `jobs`, and the `pools` of systems.
"""
