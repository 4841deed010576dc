"""Studies: many trainings that answer one question, reported as tables and plots.

A spec lists points, each one training that differs from the others in a few options. Workers on any number of machines
take points from a queue and store results. The study turns results into tables (CSV, Markdown), plots and results.json.
"""
