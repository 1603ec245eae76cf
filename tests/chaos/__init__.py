"""A seeded run that does to the whole of Reelworks what may happen to it, on real Kafka and a real S3 server, and an auditor
who looks afterwards from outside: `python -m tests.chaos --seed 7 --minutes 3`.

schedule.py   what is asked for and what goes wrong, and when: a function of the seed
world.py      the servers and the processes, and a supervisor that starts again what ended
orders.py     clients: they send what is asked for, as stubborn as real ones, and note what was accepted
troubles.py   what goes wrong
evidence.py   what the topics, the store and the gateways say when all is quiet
auditor.py    the promises, checked on the evidence; pure
report.py     what a run has shown, and the document of all runs
"""
