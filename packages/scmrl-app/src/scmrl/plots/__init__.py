"""Colors, layout and figures that studies, energy and reports share."""
