"""One file a subcommand: parse the options, call one library function, show the result."""
