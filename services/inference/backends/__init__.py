"""The runtimes that execute a model's file. Only this package knows them."""
