"""One file per subcommand: parse the options, call one library function, show the result."""
