"""The token that takes the place of a database password: a request to `rds-db:connect`, signed and not sent.

Valid for 15 minutes as a password; a connection that was opened with it lives on.
"""

from os import environ


def database_token() -> str:
    """Signed with the function's own credentials for PGHOST, PGPORT and PGUSER.

    What boto3's `generate_db_auth_token` does, without first loading the description of the whole of RDS.
    """
    from botocore.auth import SigV4QueryAuth
    from botocore.awsrequest import AWSRequest
    from botocore.session import get_session

    host = f"{environ['PGHOST']}:{environ.get('PGPORT', '5432')}"
    request = AWSRequest("GET", f"https://{host}/", params={"Action": "connect", "DBUser": environ["PGUSER"]})
    credentials = get_session().get_credentials()
    assert credentials, "a function always has the credentials of its role"
    SigV4QueryAuth(credentials, "rds-db", environ["AWS_REGION"], expires=900).add_auth(request)
    return str(request.prepare().url).removeprefix("https://")
