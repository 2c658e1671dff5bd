"""The claims of theory, each held against a measurement.

One experiment is one file, and each of them only reads measurements:

| module | what it does |
|---|---|
| `moments` | the Σ that are tried: families with a parameter, and layer files |
| `plan` | which measurements are made, in the quick set and in the full one |
| `measure` | one measurement: a method on a Σ at a rate |
| `measurements` | makes all of them, side by side where that helps, and finds them again |
| `entropy_bias`, `estimate` | how far a measured number can be trusted |
| `finding` | what an experiment says: rows, a rule, a verdict |
| `high_rate` … `families` | the experiments |
| `report`, `command` | the text, and the command `waterlevel claims` |
"""
