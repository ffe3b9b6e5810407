"""What a run found, for people: report.json, report.html, the data set card, the results table."""
