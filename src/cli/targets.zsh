
# The targets of an Rfsfile, beside what the command line itself completes.
_rfs_targets() {
    case ${words[2]} in
        build|forget|freeze|mark)
            (( ${words[(I)--]} )) || compadd -- ${(f)"$(rfs rules targets 2>/dev/null)"} ;;
    esac
}
_rfs_and_targets() {
    _rfs "$@"
    _rfs_targets
}
# The first time this file itself is the function, and has just completed the rest.
[ "$funcstack[1]" != "_rfs" ] || _rfs_targets
(( ! $+functions[compdef] )) || compdef _rfs_and_targets rfs
