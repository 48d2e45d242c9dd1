"""Who is owed which event: watches, live and catching up.

*Streams* are what the gateway numbers: one client connection with watches each. Watches of one stream with the same
range and options that stand at the same place are kept together, as a *party*: it is matched once, and shares what is
packed for it. Parties of one stream at the same place make a *cohort*. A cohort is

    live        it has been told everything up to the head (the newest revision that storage has spoken of); what
                storage tells next is for it
    behind      it holds a revision, its *place*, and nothing else: all events up to there have been told, later ones
                are read from history, a slice at a time, whenever the stream's window has room
    ahead       its place is beyond the head: a watch may begin with a revision to come, as that of a client does which
                was told by another member, further on than this one

    watch from now on ------------------------> live <---------- has come to the head; joins the live one, if any
                                                 |                              |
                                  an event, and no room in the window,          |
                                  or events that storage did not tell           |
                                                 v                              |
    watch from a past revision ------------> behind ----- slices of history ----+
                                                 |
                                                 +--> cancelled: compacted, or its client takes nothing for too long

Cohorts of a stream that meet at one place become one. So however many watches a stream has, and wherever they began,
what is kept is a place per cohort; nothing is ever queued for a client beyond its window.

What must hold, for each watch, in all that is sent:

- events come in the order of their revisions, each once, none is left out, and those of one revision together;
- so an answer's `revision` R means: all events up to R have been told. A client resumes from R + 1.

Nothing here knows a clock or a socket: `now` (ms) is an argument, and what is to be sent is taken out by the owner
(`actors/watch_actor.py`). Files: `intervals` (which ranges hold a key), `parties` (the parts above), `index` (which
parties match), `packing` (bytes), `telling` (a batch of events to all whom it concerns), `watching` (the machine).
"""
