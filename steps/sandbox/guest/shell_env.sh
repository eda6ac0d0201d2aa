# Read by bash before a shell step: remembers the line of the command that failed, so that the error can name it.
unset BASH_ENV
set -E
trap 'printf "%s" "$LINENO" > /tmp/.stepbox/line' ERR
