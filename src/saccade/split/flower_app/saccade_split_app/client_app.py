"""A client's side of a Flower run."""

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

app = ClientApp()


@app.query("who")
def who(message: Message, context: Context) -> Message:
    from saccade.split import flower

    return flower.say_who(message, context)


@app.train("split_round")
def split_round(message: Message, context: Context) -> Message:
    from saccade.split import flower

    return flower.train(message, context)


@app.query("end")
def end(message: Message, context: Context) -> Message:
    from saccade.split import flower

    return flower.hear_the_end(message, context)
