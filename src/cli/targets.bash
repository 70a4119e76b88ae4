
# The targets of an Rfsfile, beside what the command line itself completes.
_rfs_and_targets() {
    _rfs "$@"
    local word=${COMP_WORDS[COMP_CWORD]}
    case ${COMP_WORDS[1]} in
        build | forget | freeze | mark)
            if [[ $word != -* && " ${COMP_WORDS[*]} " != *" -- "* ]]; then
                local IFS=$'\n'
                COMPREPLY+=($(compgen -W "$(rfs rules targets 2>/dev/null)" -- "$word"))
            fi
            ;;
    esac
}
complete -F _rfs_and_targets -o bashdefault -o default rfs
