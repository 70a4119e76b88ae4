
# The targets of an Rfsfile, beside what the command line itself completes.
_rfs_and_targets() {
    _rfs "$@"
    case ${words[2]} in
        build|forget|freeze|mark)
            (( ${words[(I)--]} )) || compadd -- ${(f)"$(rfs rules targets 2>/dev/null)"} ;;
    esac
}
(( ! $+functions[compdef] )) || compdef _rfs_and_targets rfs
