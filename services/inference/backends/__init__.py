"""The runtimes that execute models. No other package of the service imports them."""
