
# The targets of an Rfsfile, beside what the command line itself completes.
complete -c rfs -n "__fish_seen_subcommand_from build forget freeze mark" -a "(rfs rules targets 2>/dev/null)"
