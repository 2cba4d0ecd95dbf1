"""The search for the best artifact: what may differ, what each choice is worth, who wins.

A trial is a whole build up to the int8 file, judged by validation accuracy, measured time and
bytes. Optuna proposes, the stage cache makes a proposal cost only what it changes, and the winners
are built in full and verified on the test images.
"""
