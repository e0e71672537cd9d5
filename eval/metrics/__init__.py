"""The benchmarks' metrics as pure functions of strings.

Text metrics and SCRM come in two modes. `paper` is what the published scripts compute, with their exchanged arguments
and skipped rows, so that numbers can stand beside the published ones. `correct` is what the names say.
"""
