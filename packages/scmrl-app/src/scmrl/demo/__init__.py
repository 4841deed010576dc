"""`scmrl demo`: a local page on which a person disturbs what a run's model gets and sees its answer move.

Data flow: `connections` bounds who may wait, `guard` lets a request in, `server` takes it, `intake` receives its body,
`sandbox` has an uploaded file read by the process `reading`, `clips` keeps what came out, `noise` disturbs it,
`explain` (outside) asks the model, `drawing` makes JSON of it, and `page/` draws that.
"""
