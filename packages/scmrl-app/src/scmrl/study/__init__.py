"""Studies: many trainings that answer one question, as tables and plots.

From a study's settings to its page, data takes this way:

    spec      --points-->   points, each one training with what differs from the others
    points    --work-->     results, by as many worker processes and machines as are given
    results   --tabulate--> tables (CSV, Markdown), plots and results.json

    points      one training of a study, and its experiment
    work        who does which point: a list shared through Optuna's storage
    storage     where that list lies: a database, or a journal file
    outage      waiting for a database that is away
    spec        what all studies can be told; each kind of study is a subclass in a file of its own
    ranges      what to vary, as users say it: values of a grid, ranges of a search
    worker      the process that takes points and trains
    run         starts workers, shows progress, writes what came of it
    statistics  means, intervals, paired tests, importance
    tables      tables and results.json
    plots       the pictures
    response    what a grid says: curves, importance, which values to take
    variants    the ways to fuse that are compared, as options
    disturb     noise, occlusion and losses of a batch; robustness: tables and curves of them
    cost        what a training takes; growth: tables and curves over samples and senses
    cells       numbers as tables show them
"""
