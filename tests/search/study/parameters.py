"""What the tests of studies search over: a parameter of each kind."""

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

PARAMETERS = {
    "optim.lr": FloatDistribution(1e-5, 1e-3, log=True),
    "concepts.clusters": IntDistribution(10, 100),
    "loss.coarse_pooling": CategoricalDistribution(["max", "mean"]),
}
