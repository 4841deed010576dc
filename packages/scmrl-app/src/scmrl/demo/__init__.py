"""`scmrl demo`: a local web page on which to perturb the inputs of a model and see its prediction change.

Data flow of a request: `connections` limits open connections, `guard` authorizes, `server` routes, `intake` receives
the body, `sandbox` lets the process `decoder` decode an uploaded file, `clips` stores the result,
`session` perturbs it, `explain` (outside) runs the model, `encoding` encodes the result as JSON, and `page/` draws it.
"""
