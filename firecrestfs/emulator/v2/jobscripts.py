"""The scripts of transfer jobs: what they do, print and leave behind is what clients see.

Paths get into them as into the real ones: escaped for HTML, in quotes or not, so that some names
arrive mangled, split into words, or run. A name that would run something trips an alarm; the job
goes its way all the same, in its sandbox. `#line N` puts the next line where bash's messages say.
The scripts talk HTTP through bash itself: compute nodes have curl, the machine of a test may not.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from markupsafe import escape

from ..frontdoor import JOB_AGENT
from ..shell import Alarms, CommandFailed, Injection, match_line

_OPERATION = """#!/bin/bash
@directives@
echo $(date -u) "@title@ Files Job (id:$SLURM_JOB_ID)"
if words=$(@command@); then
    echo $(date -u) "Files were successfully @done@."@more@
else
    echo $(date -u) "Unable to @verb@ files exit code:0 error: $words" >&2
fi
"""

_CLIENT = """
trap '' PIPE

# ask METHOD URL HEADERS [FILE]: send a request, read the head of the answer. The body is fd 3's.
ask() {
    local address=${2#http://} line
    local host=${address%%/*}
    code=000 size=0 etag=
    { exec 3<> "/dev/tcp/${host%:*}/${host##*:}"; } 2> /dev/null || return
    {
        printf '%s %s HTTP/1.0\\r\\nHost: %s\\r\\nUser-Agent: @agent@\\r\\n%b\\r\\n' \\
            "$1" "/${address#*/}" "$host" "$3"
        [[ -z $4 ]] || cat -- "$4"
    } >&3 2> /dev/null
    read -r line <&3 || return
    line=${line#* }
    code=${line%% *}
    while read -r line <&3 && [[ $line != $'\\r' ]]; do
        line=${line%$'\\r'}
        case ${line,,} in
            content-length:*) size=${line##*: } ;;
            content-range:*) whole=${line##*/} ;;
            etag:*) etag=${line##*: } ;;
        esac
    done 2> /dev/null
}
"""

_INGRESS = """#!/bin/bash
@directives@
@client@
say() { echo $(date -u) "$@"; }

say "Ingress File Transfer Job (id:$SLURM_JOB_ID)"
if [[ -d "@path@" ]]; then
    say "targetPath must point to a file path:  is a directory." >&2
    exit 3
fi
say "Waiting till file to tranfer is available..."
for ((look = 0; ; look++)); do
    ask HEAD '@head@'
    [[ $code == 200 ]] && break
    ((look < 1440)) || exit 0
    sleep @poll@
done
target="@path@"
say "File to transfer found in S3 bucket"
say "Downloading file to: $target ..."
if [[ -f $target ]]; then rm "$target"; fi
got=0
for ((part = 1, from = 0; ; part++, from += @largest@)); do
    piece=$target.$part
    ask GET '@get@' "Range: bytes=$from-$((from + @largest@ - 1))\\r\\n"
    { cat <&3 > "$piece"; } 2> /dev/null
    if [[ $code != 20[06] ]]; then say "Download failed: part $part" >&2; exit 1; fi
    ((got += size))
#line 54
    cat "$piece" >> "$target"
    rm "$piece"
    ((got < whole)) || break
done
say "Received $got bytes"
thousandths=$(((got * 1000 + 524288) / 1048576))
printf -v size '%d.%03d' $((thousandths / 1000)) $((thousandths % 1000))
say "File was successfully downloaded (size: ${size}MB)"
"""

_OUTGRESS = """#!/bin/bash
@directives@
@client@
urls=(@urls@)
num_parts=@count@

# upload_part NUMBER [cut]: with "cut" from the file, else from a piece that the first try left
upload_part() {
    local piece
    printf -v piece '%s/%0*d.part' "$folder" "$digits" "$1"
    if [[ -n $2 ]] && ! dd if="$input_file" of="$piece" bs=1M count="$blocks" \\
        skip=$((($1 - 1) * blocks)) status=none; then
        echo "error_generating_part_file 0" >&2
        return
    fi
    [[ -f $piece ]] || return
    echo "[INFO] Uploading part $1..."
    ask PUT "${urls[$1 - 1]}" "Content-Length: $(stat -c %s "$piece")\\r\\n" "$piece"
    if [[ -z $etag ]]; then
        echo "error_curl part $1" >&2
        return
    fi
    echo "$etag" > "$piece.result"
    rm "$piece"
}

upload_parts() {
    local number
    for ((number = 1; number <= num_parts; number++)); do
        upload_part "$number" "$1" &
        ((number % 3)) || wait
    done
    wait
}

#line 177
input_file=@path@

echo $(date -u) "Upload File Job (id:$SLURM_JOB_ID)"
echo "Uploading file:$input_file into $num_parts chunks"
if [[ ! -f $input_file ]]; then
    echo "file_not_found" >&2
    exit 34
fi
echo "[INFO] Creating temporary folder:@folder@"
mkdir -p '@folder@'
folder=$(mktemp -d "@folder@$(date +%Y%m%d_%H%M%S%N)_XXXXXXXXXXXXX") || exit 34
digits=$((num_parts < 10 ? 2 : ${#num_parts}))
file_size=$(stat -L -c %s "$input_file")
#line 216
part_size=$(( (file_size + num_parts - 1) / num_parts ))
blocks=$(((part_size + 1048575) / 1048576))
if ((part_size > @largest@)); then
    echo "error_max_part_size" >&2
    exit 27
fi
upload_parts cut
upload_parts
echo "[INFO] Parts upload completed."
list=
for ((number = 1; number <= num_parts; number++)); do
    printf -v result '%s/%0*d.part.result' "$folder" "$digits" "$number"
    if [[ -f $result ]]; then
        etag=$(tr -d '"' < "$result")
        echo "[INFO] Upload of part $number succeded with ETag: $etag|"
        list+="<Part><PartNumber>$number</PartNumber><ETag>\\"$etag\\"</ETag></Part>"
    else
        echo "[INFO] Upload of part $number failed"
        echo -n "upload_failed_part_$number" >&2
    fi
done
echo "[INFO] Signaling multipart upload completion"
echo "<CompleteMultipartUpload>$list</CompleteMultipartUpload>" > "$folder/complete"
ask POST '@complete@' "Content-Length: $(stat -c %s "$folder/complete")\\r\\n" "$folder/complete"
rm "$folder/complete"
if [[ $code != 200 ]]; then
    [[ $code == 000 ]] && echo "curl: (52) Empty reply from server" >&2
    [[ $code == 000 ]] || echo "curl: (22) The requested URL returned error: $code" >&2
    exit 70
fi
echo "[INFO] Multipart file upload successfully completed"
rm -fr "$folder"
rmdir '@folder@'
"""

_ABSENT = """#!/bin/bash
@directives@
echo $(date -u) "@title@ File Transfer Job (id:$SLURM_JOB_ID)"
echo "ERROR: No matching distribution found for @package@" >&2
exit 1
"""


class Operation(NamedTuple):
    """How a job does something with files, and speaks of it."""

    job_name: str
    title: str
    verb: str
    done: str
    command: str
    more: str = ""


_FIND = "find . -type f -regex '@pattern@' -print0"
_MORE = '\n    echo -e "Files compressed:\\n$words"'

MOVE = Operation("MoveFiles", "Move", "move", "moved", "mv -- '@source@' '@target@'")
COPY = Operation(
    "CopyFiles",
    "Copy",
    "copy",
    "copied",
    "cp --force -R@links@ --preserve=all -- '@source@' '@target@'",
)
DELETE = Operation("DeleteFiles", "Delete", "delete", "deleted", "rm -R -- '@source@'")
COMPRESS = Operation(
    "CompressFiles",
    "Compress",
    "compress",
    "compressed",
    "tar @options@ -c@letter@vf '@target@' -C '@folder@' '@name@'",
)
COMPRESS_MATCHING = COMPRESS._replace(
    command=f"cd @folder@; {_FIND} | tar @options@ -c@letter@vf '@target@' --null --files-from -",
    more=_MORE,
)
EXTRACT = Operation(
    "CompressFiles",
    "Extract",
    "extract",
    "extracted",
    "tar -x@letter@f '@source@' -C '@target@'",
)


class Scripts:
    """Writes the scripts of one system's jobs. `directives`: the lines on top of each."""

    def __init__(self, directives: str, alarms: Alarms) -> None:
        self._directives = directives
        self._alarms = alarms

    def operation(self, operation: Operation, **values: str) -> str:
        """Return the script of a file operation."""
        words = {name: str(escape(value)) for name, value in values.items()}
        if operation is COMPRESS_MATCHING:
            self._watch("cd {word}", words["folder"])
        if words.get("name", "").startswith("-"):
            self._alarms.trip(f"tar … {words['name']}")
        command = _filled(operation.command, words)
        fields = operation._replace(command=command)._asdict()
        return self._render(_OPERATION, fields)

    def ingress(self, path: str, *, head: str, get: str, largest: int, poll: float) -> str:
        """Return the script that waits for an object and writes it to *path*."""
        word = str(escape(path))
        self._watch('test "{word}"', word)
        values = {"path": word, "head": head, "get": get, "poll": f"{poll:g}"}
        return self._render(_INGRESS, {**values, "largest": str(largest)})

    def outgress(
        self, path: str, *, urls: list[str], complete: str, largest: int, folder: str
    ) -> str:
        """Return the script that uploads *path* in parts."""
        word = str(escape(path))
        self._watch("test {word}", word)
        values = {"path": word, "count": str(len(urls)), "largest": str(largest)}
        quoted = " ".join(f"'{url}'" for url in urls)
        fields = {**values, "urls": quoted, "complete": complete, "folder": folder}
        return self._render(_OUTGRESS, fields)

    def absent(self, title: str, package: str) -> str:
        """Return the script of a method whose program can't be installed here."""
        return self._render(_ABSENT, {"title": title, "package": package})

    def _render(self, template: str, values: dict[str, str]) -> str:
        client = _filled(_CLIENT, {"agent": JOB_AGENT}).strip()
        fixed = {"directives": self._directives, "client": client}
        return _placed(_filled(template, {**fixed, **values}))

    def _watch(self, template: str, word: str) -> None:
        """Trip an alarm if the shell reads more than a piece of text where *word* is."""
        line = template.format(word=word)
        try:
            match_line(line, template, ("word",), self._alarms)
        except Injection:
            pass  # the alarm has gone off
        except CommandFailed:  # an open quote takes in what follows
            self._alarms.trip(line)


def _filled(template: str, values: dict[str, str]) -> str:
    return re.sub(r"@(\w+)@", lambda match: values.get(match.group(1), match.group()), template)


def _placed(script: str) -> str:
    """Carry out the `#line` marks by empty lines."""
    out: list[str] = []
    for line in script.split("\n"):
        match = re.fullmatch(r"#line (\d+)", line)
        if match is None:
            out.append(line)
        else:
            out += [""] * (int(match.group(1)) - 1 - len(out))
    return "\n".join(out)
