"""The interactive page of an answer: one offline HTML file."""
