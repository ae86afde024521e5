"""Options that make a command small: what is added behind the options that it has itself.

Nothing here is imported from the project or takes time: every command of the documents asks.
"""

SUPERVISED = ("sft", "reward_model")
NO_RUN = ("--help", "--hydra-help", "--version", "--cfg", "-c", "--info", "-sc")
EVALUATION = ("evaluation.prompts=8", "hardware=cpu", "logger=none")
TRAINING = ("hardware=cpu", "logger=none")
TOY = ("model.vocab_size=400",)
LANDMARKS = ("data.train_demonstrations=64", "data.train_pairs=64", "data.val_pairs=24")
STAGES = ("stages.sft.epochs=1", "stages.reward_model.epochs=1")
POLICY = (
    *STAGES,
    "algo.iterations=2",
    "algo.prompts_per_iteration=8",
    "algo.micro_batch_size=8",
    "algo.val_prompts=8",
    "callbacks.checkpoint.every_n_epochs=1",
)
ROUNDS = ("rounds=2", "pairs=4")
OPTUNA = ("hydra.sweeper.n_trials=2",)


def budget(arguments: list[str]) -> list[str]:
    """For the arguments of run.py or rlhf-ladder."""
    if not arguments or any(flag in arguments for flag in NO_RUN):
        return []
    given = dict(a.lstrip("+~").split("=", 1) for a in arguments if "=" in a)
    task = given.get("task", "train")
    options: list[str] = []
    if task in ("train", "rounds"):
        options += (*TRAINING, *_of_data(given), *_of_model(given), *_of_algorithm(given))
    elif task == "evaluate":
        options += (*EVALUATION, *(_of_data(given) if "data" in given else ()))
    if task == "rounds":
        options += ROUNDS
    if given.get("sweep") == "optuna":
        options += OPTUNA
    return [option for option in options if option.split("=")[0] not in given]


def _of_data(given: dict[str, str]) -> tuple[str, ...]:
    return LANDMARKS if given.get("data", "landmarks") == "landmarks" else ("data.limit=40",)


def _of_model(given: dict[str, str]) -> tuple[str, ...]:
    toy = given.get("model", "llama") in ("llama", "gpt2") and "model.pretrained" not in given
    return TOY if toy else ()


def _of_algorithm(given: dict[str, str]) -> tuple[str, ...]:
    return ("algo.epochs=1",) if given.get("algo") in SUPERVISED else POLICY
