"""`shapelaw verify`: train small proxies of an answer's finalists, and say whether its pick stands.

Part of the front door, because it asks the search's answer, trains with sweeps and believes by
scaling's laws.

    question.py   what an answer claims: the pick and the shapes that could take its place
    proxies.py    the same proportions at sizes that can be trained here, as a design
    verdict.py    what runs of the proxies do to the claim, and what they can be expected to do
    verify.py     plan, train, update, say
"""
